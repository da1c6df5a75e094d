"""Settings by shot (``--shots``): read from CSV, CMX 3600 EDL and OpenTimelineIO files, and lists of scenes written."""
