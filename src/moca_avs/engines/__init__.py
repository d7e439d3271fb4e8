"""Other ways to run `segment_file` over many inputs than in order in this process."""
