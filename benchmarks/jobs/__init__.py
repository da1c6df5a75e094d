"""Tests of jobs whose processes are killed at random times."""
