"""Analyses: each file has one public function and one frozen result."""
