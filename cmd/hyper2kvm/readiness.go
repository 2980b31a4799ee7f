package main

// reportFormats are what check writes a report as.
var reportFormats = []string{"table", "csv", "json", "html"}
