"""`prism-ray dashboard`: a small local page on a run, made from its store alone and never writing to it."""
