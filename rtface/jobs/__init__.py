"""Films that finish: films as jobs (`rtface.jobs.job`), and the queue of films (`rtface.jobs.queue`).

A job divides a film into segments that are finished one by one, by any number of workers, whatever ends them.
"""
