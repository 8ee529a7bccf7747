"""Models' vision outputs, computed once by the stage `embed`."""
