"""DQ-Whisper for ESPnet: distil a small multilingual Whisper while it is quantized."""

__version__ = "0.1.0"
