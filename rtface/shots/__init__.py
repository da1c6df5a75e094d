"""Settings by shot (``--shots``): read from CSV and CMX 3600 EDL files, and lists of scenes written."""
