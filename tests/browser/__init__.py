"""Tests in a browser: what a reader sees and does, in the Chromium of this machine."""
