"""Frames of cameras: videos and single images, in and out."""
