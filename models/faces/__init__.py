"""Faces: finding, ordering, aligning, recognising and assigning them.

One idea a file:

| file | holds |
|---|---|
| `types.py` | the wire types `Face`, `Faces`, `Placement`, `Placements` |
| `landmarks.py` | landmark layouts and the named points they share |
| `head_shape.py` | an average head fitted to those points: pose, missing points, face outline |
| `detection.py` | one entry point over all backends: which one runs, retries, ordering, the message |
| `mediapipe/` | the default backend: MediaPipe's detectors, dense mesh and irises in torch, with their weights |
| `dlib_backend.py`, `insightface_backend.py`, `given.py` | the other backends: dlib, insightface, and what the artist hands in |
| `ordering.py` | the stated, stable order of faces |
| `alignment.py`, `resampling.py` | similarity transforms to a template; antialiased sub-pixel resampling both ways |
| `identity.py` | dlib's 128-number embedding and the similarity made from it |
| `selection.py`, `assignment.py` | picking faces; giving each face its person |

Coordinates everywhere are *continuous picture pixels*: x to the right, y down, pixel (i, j) covers [i, i + 1) x [j, j + 1) and
has its centre at (i + 0.5, j + 0.5). "Left" and "right" mean the viewer's.
Nothing here imports a face package before it is asked to find a face.
"""
