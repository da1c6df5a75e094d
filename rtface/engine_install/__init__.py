"""Engines that others published, made ready here: ``rtface engines add``.

What can be added is data (`offers`). A file of weights comes from the user's disk or is fetched (`download`), is
recognised by the names and shapes in it (`checkpoint`, `recognise`), converted by a process that has torch
(`environment`, `convert`) or taken as it is (`plain`), and moved into the user's folder when it has passed its golden
gate (`add`). torch is never imported here, and nothing that a file holds is run.
"""
