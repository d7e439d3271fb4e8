"""What several packages need and none of them owns: devices, profiling, caches, threads, files."""
