module strands-bench-http-go

go 1.21
