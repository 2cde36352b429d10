"""Novel views and light (the paper's sections 3.2 and 4.2): a portrait lifted to depth, normals, albedo and light, rendered from cameras
of 25 scalars.

World axes and units are those of the training heads and of EG3D: x to the person's left (the viewer's right), y up, z out of the face, metres;
the eyes lie near y = 0. Camera axes are OpenCV's: x right, y down, z forward. Tensors are float32 on the CPU.
"""
