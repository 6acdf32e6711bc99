// One binary for the Kubernetes half of a real node: kubelet and kube-proxy share most of their code. Versions are those of
// ../../cluster/controlplane, so that what was compiled for that is not compiled again.
package main

import (
	"context"
	"fmt"
	"os"

	"k8s.io/component-base/cli"
	_ "k8s.io/component-base/logs/json/register"
	_ "k8s.io/component-base/metrics/prometheus/clientgo"
	_ "k8s.io/component-base/metrics/prometheus/version"
	kubeproxy "k8s.io/kubernetes/cmd/kube-proxy/app"
	kubelet "k8s.io/kubernetes/cmd/kubelet/app"
)

var components = map[string]func() int{
	"kubelet":    func() int { return cli.Run(kubelet.NewKubeletCommand(context.Background())) },
	"kube-proxy": func() int { return cli.Run(kubeproxy.NewProxyCommand()) },
}

func main() {
	if len(os.Args) < 2 || components[os.Args[1]] == nil {
		fmt.Fprintf(os.Stderr, "usage: %s COMPONENT [FLAGS]\n", os.Args[0])
		os.Exit(2)
	}
	run := components[os.Args[1]]
	// The components parse os.Args themselves and expect their own name in front.
	os.Args = os.Args[1:]
	os.Exit(run())
}
