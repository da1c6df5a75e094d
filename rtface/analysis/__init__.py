"""What is wrong with a face: measures on a patch of its pixels, and the treatment that follows."""
