"""What a live run writes over the network and to disk: a process that encodes, and transports that never wait."""
