"""MediaPipe's models, in torch: finding faces fast, with a dense mesh, and telling a portrait's parts apart.

| file | holds |
|---|---|
| `networks.py` | the networks |
| `weights.py`, `weights/` | loading them once a device; the files, their licence and origin |
| `detector.py` | where faces might be: views of the picture, anchors, doubles |
| `mesh.py` | 468 points in a square, read again until they hold still |
| `iris.py` | eyelids and irises, read at closer sight |
| `finder.py` | all together: the faces of a picture, or the face in a box |
| `segmenter.py` | what each pixel of a portrait shows: hair, face, other skin, clothes, things worn |
| `pose.py` | how a head is turned |
| `topology.py` | what the points are: triangles, rings, mirror pairs, the average face |

Pictures and points count in the continuous pixels of the package above.
"""
