"""The enhancement step: crops, engine, correction, composite; which faces, by which engine, and keyframes."""
