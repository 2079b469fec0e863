module strands-bench

go 1.23
