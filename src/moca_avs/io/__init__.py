"""Files in and out: nothing else in the package opens a video, an image or an audio file."""
