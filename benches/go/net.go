// Sockets: see src/net.

package main

import (
	"io"
	"net"
	"os"
	"os/exec"
	"sort"
	"strconv"
	"time"
)

func echoServer() string {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	check(err == nil, "a port")
	go func() {
		for {
			conn, err := listener.Accept()
			check(err == nil, "a connection")
			go func() {
				buffer := make([]byte, 1024)
				for {
					n, err := conn.Read(buffer)
					if err != nil {
						conn.Close()
						return
					}
					if _, err := conn.Write(buffer[:n]); err != nil {
						return
					}
				}
			}()
		}
	}()
	return listener.Addr().String()
}

func client(words ...string) *exec.Cmd {
	command := exec.Command(os.Getenv("STRANDS_BENCH_CLIENT"), append([]string{"client"}, words...)...)
	command.Stderr = os.Stderr
	return command
}

func echo(size sizes) {
	command := client("echo", echoServer(), strconv.FormatInt(size.echo.Milliseconds(), 10))
	command.Stdout = os.Stdout
	check(command.Run() == nil, "the client has failed")
}

func idleConnections(size sizes) {
	addr := echoServer()
	check(client("idle", addr, "100").Run() == nil, "the client has failed")
	before := memory()
	command := client("idle", addr, strconv.Itoa(size.connections))
	stdin, _ := command.StdinPipe()
	stdout, _ := command.StdoutPipe()
	check(command.Start() == nil, "the client starts")
	_, err := io.ReadFull(stdout, make([]byte, 1))
	check(err == nil, "all are connected")
	metric("bytes", "B", float64(memory()-before)/float64(size.connections))
	stdin.Close()
	command.Wait()
}

// As TRANSFERS in src/net.
const transfers = 21

func transfer(size sizes) {
	var millis []float64
	for i := 0; i < transfers; i++ {
		begun := time.Now()
		transferOnce(size)
		millis = append(millis, float64(time.Since(begun).Nanoseconds())/1e6)
	}
	sort.Float64s(millis)
	metric("total", "ms", millis[transfers/2])
}

func transferOnce(size sizes) {
	const chunk = 64 << 10
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	check(err == nil, "a port")
	go func() {
		conn, err := net.Dial("tcp", listener.Addr().String())
		check(err == nil, "a listener")
		buffer := make([]byte, chunk)
		for i := 0; i < size.transfer/chunk; i++ {
			_, err := conn.Write(buffer)
			check(err == nil, "a reader")
		}
		conn.Close()
	}()
	conn, err := listener.Accept()
	check(err == nil, "a connection")
	buffer := make([]byte, chunk)
	got := 0
	for {
		n, err := conn.Read(buffer)
		got += n
		if err == io.EOF {
			break
		}
		check(err == nil, "a writer")
	}
	check(got == size.transfer/chunk*chunk, "bytes were lost")
	conn.Close()
	listener.Close()
}
