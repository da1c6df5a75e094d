"""Enhances films in resumable jobs (`rtface.jobs.job`), and queues films (`rtface.jobs.queue`).

A job divides a film into segments that any number of workers finish one by one, even after a crash.
"""
