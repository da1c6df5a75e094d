"""What formats say, read without FFmpeg: containers, headers of frames, colour tags, pixel formats."""
