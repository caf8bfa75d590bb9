"""What the systems of a report are to each other."""

# The untouched models on the student's grid, which takes no training.
ROUNDED = ("untouched_rounded", "teacher_rounded")
ROLES = ("untouched", "teacher", *ROUNDED, "float_student", "student")
