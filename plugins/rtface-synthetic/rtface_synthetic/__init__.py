"""A face that does not exist instead of the real one: a stage of rtface, for privacy. Not for commercial use."""
