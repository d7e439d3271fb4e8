"""Other ways to run `segment_file` over many inputs than one after the other in this process."""
