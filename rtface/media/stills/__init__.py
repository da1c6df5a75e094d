"""Still images in and out: one by one, a folder of them, or a folder as a film."""
