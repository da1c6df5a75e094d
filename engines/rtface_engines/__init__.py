"""Installs published engines: ``rtface engines add``.

The engines that can be added are data (`catalogue`). A file of weights comes from the user's disk or
is downloaded (`download`), is identified by the names and shapes of its tensors (`checkpoint`,
`identify`), converted by a process that has torch (`environment`, `convert`) or, an ONNX file, taken
as it is (`generic_onnx`), and moved into the user's folder once it passes its golden gate (`add`).
torch is never imported here, and no code in a file is run.
"""

import importlib.util

if importlib.util.find_spec("rtface") is None:
    raise ImportError("rtface-engines needs rtface, which is not installed: install its wheel or its clone first")
