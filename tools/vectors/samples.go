package main

import "testing"

func samples(_ *testing.T, _ func(any))         {}
func collections(_ *testing.T, _ func(any))     {}
func reconciliations(_ *testing.T, _ func(any)) {}
func breakers(_ *testing.T, _ func(any))        {}
func horizontal(_ *testing.T, _ func(any))      {}
