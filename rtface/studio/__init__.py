"""The studio (``rtface app``): a local server and its page, for films, the queue, live runs, engines and health."""
