// The first process of every pod: it holds the pod's namespaces open and does nothing else. Told -v it ends at once, as the
// pause of Kubernetes does: the operator has it run so in the pods that bring a snapshot to its nodes.
package main

import (
	"fmt"
	"os"
	"os/signal"
	"syscall"
)

func main() {
	if len(os.Args) > 1 && os.Args[1] == "-v" {
		fmt.Println("pause")
		return
	}
	stop := make(chan os.Signal, 1)
	signal.Notify(stop, syscall.SIGINT, syscall.SIGTERM)
	<-stop
}
