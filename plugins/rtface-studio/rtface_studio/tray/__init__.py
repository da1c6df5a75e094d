"""The icon in the desktop's tray, which keeps a virtual camera ready (``rtface tray``)."""
