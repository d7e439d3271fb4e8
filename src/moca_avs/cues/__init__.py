"""Cues: maps over a frame that say where the sound comes from, each from one kind of evidence."""
