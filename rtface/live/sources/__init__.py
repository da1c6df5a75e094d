"""What a live run reads: a process that opens and reads, a watch over it, and one clock."""
