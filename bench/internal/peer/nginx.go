package peer

import (
	"fmt"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"runtime"
	"strings"

	"example.com/roster/bench/internal/process"
)

// NginxReply is the constant that nginx answers: as many bytes as a gRPC reply
// of two users has.
var NginxReply = strings.Repeat("roster ", 14)[:96]

// nginxConfig has one location that reads a body of the call and answers the
// constant. Everything that nginx would write elsewhere is off or in the
// folder of the run.
const nginxConfig = `
%[1]sworker_processes %[2]d;
daemon off;
pid %[3]s/pid;
error_log stderr warn;
events { worker_connections 20000; }
http {
	access_log off;
	client_body_temp_path %[3]s/body;
	proxy_temp_path %[3]s/proxy;
	fastcgi_temp_path %[3]s/fastcgi;
	uwsgi_temp_path %[3]s/uwsgi;
	scgi_temp_path %[3]s/scgi;
	keepalive_requests 1000000000;
	http2_max_concurrent_streams 250;
	server {
		listen %[4]s http2 backlog=4096;
		location / {
			default_type application/grpc;
			add_header grpc-status 0;
			return 200 "%[5]s";
		}
	}
}
`

func (s *Setup) nginx(addr, dir string) (process.Command, error) {
	path, err := nginxPath()
	if err != nil {
		return process.Command{}, err
	}
	// Only root may name a user, and must, or the workers run as another one
	// that cannot write to the folder.
	run := ""
	if os.Geteuid() == 0 {
		current, err := user.Current()
		if err != nil {
			return process.Command{}, err
		}
		run = "user " + current.Username + ";\n"
	}
	file := filepath.Join(dir, "nginx.conf")
	config := fmt.Sprintf(nginxConfig, run, runtime.NumCPU(), dir, addr, NginxReply)
	if err := os.WriteFile(file, []byte(config), 0o600); err != nil {
		return process.Command{}, err
	}
	return process.Command{Path: path, Args: []string{"-p", dir, "-e", "stderr", "-c", file}}, nil
}

// nginxPath finds nginx, which Debian puts where only root's PATH looks.
func nginxPath() (string, error) {
	if path, err := exec.LookPath("nginx"); err == nil {
		return path, nil
	}
	return exec.LookPath("/usr/sbin/nginx")
}
