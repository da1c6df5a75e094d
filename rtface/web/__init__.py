"""What the web servers share, of the studio and of a live run: connections, who may ask, requests and errors."""
