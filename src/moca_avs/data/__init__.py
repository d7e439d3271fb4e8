"""Training data: what a data set must offer, and any folder of videos as one."""
