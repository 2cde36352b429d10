"""The stages of a run, each from the files of the stages before it: autoencoder -> base (-> hint) -> matching -> appearance.
The recogniser stands beside them: it needs the data alone.

A run is a folder with one subfolder a stage. The demo's base is trained here; `sd15` runs take an SD1.5 checkpoint and a
CLIP ViT-L/14 vision model, loaded by ComfyUI's own loaders.
"""
