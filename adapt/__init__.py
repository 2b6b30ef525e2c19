"""How a frozen CLIP is adapted, for all methods: what is attached, prompts, precision, files of adapters."""
