"""Warm standby: layers kept on disk by what a heatmap lists."""
