"""From inputs to folders of results: videos are read, segmented and written in bounded memory."""
