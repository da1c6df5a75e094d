"""A tray icon that keeps a virtual camera ready (``rtface tray``)."""
