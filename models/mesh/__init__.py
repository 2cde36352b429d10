"""A portrait without any trained net: the profile's dense face mesh posed as the style's, the photograph warped along, the style's light laid on.

Beyond the paper, which learns all three. Points are those of `faces/mediapipe`; arrays here are numpy, sRGB in [0, 1], `[S, S, ...]`, pixel
(i, j) has its centre at (i + 0.5, j + 0.5).
"""
