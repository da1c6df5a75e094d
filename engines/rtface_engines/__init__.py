"""Installs published engines: ``rtface engines add``.

Data files describe the engines (`catalogue`). A weights file comes from the user's disk or a download
(`download`). The names and shapes of its tensors identify it (`checkpoint`, `identify`). A child process that
has torch converts it (`environment`, `convert`); an ONNX file is used as it is (`generic_onnx`). After the engine
passes its golden gate, it moves into the user's folder (`add`). This package never imports torch and
never runs code from a file.
"""

import importlib.util

if importlib.util.find_spec("rtface") is None:
    raise ImportError("rtface-engines needs rtface, which is not installed: install its wheel or its clone first")
