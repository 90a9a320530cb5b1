package main

import "io"

func own(io.Writer) error { return nil }
