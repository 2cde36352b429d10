"""Data, training loops, export and measurement: what produces the nets. Imports models/, so what is trained is what runs."""
