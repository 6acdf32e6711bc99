// One binary for every process of the local control plane. The Go module proxy has the source of Kubernetes but no
// binaries; the components share most of their code, so that linking them together saves most of the time and space.
//
// The component is the first argument (`controlplane kube-apiserver --flag`) or the name the binary is called by,
// so that a symbolic link called kubectl is a kubectl.
package main

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"os"
	"path/filepath"

	"go.etcd.io/etcd/server/v3/etcdmain"
	_ "k8s.io/client-go/plugin/pkg/client/auth"
	"k8s.io/component-base/cli"
	"k8s.io/component-base/logs"
	_ "k8s.io/component-base/logs/json/register"
	_ "k8s.io/component-base/metrics/prometheus/clientgo"
	_ "k8s.io/component-base/metrics/prometheus/version"
	kubectl "k8s.io/kubectl/pkg/cmd"
	kubectlutil "k8s.io/kubectl/pkg/cmd/util"
	apiserver "k8s.io/kubernetes/cmd/kube-apiserver/app"
	controllermanager "k8s.io/kubernetes/cmd/kube-controller-manager/app"
	scheduler "k8s.io/kubernetes/cmd/kube-scheduler/app"
)

var components = map[string]func(){
	"etcd":                    func() { etcdmain.Main(os.Args) },
	"kube-apiserver":          func() { os.Exit(cli.Run(apiserver.NewAPIServerCommand())) },
	"kube-controller-manager": func() { os.Exit(cli.Run(controllermanager.NewControllerManagerCommand())) },
	"kube-scheduler":          func() { os.Exit(cli.Run(scheduler.NewSchedulerCommand())) },
	"kubectl":                 runKubectl,
	"generate-key":            generateKey,
}

func main() {
	run, ok := components[filepath.Base(os.Args[0])]
	if !ok {
		if len(os.Args) < 2 || components[os.Args[1]] == nil {
			fmt.Fprintf(os.Stderr, "usage: %s COMPONENT [FLAGS]\n", os.Args[0])
			os.Exit(2)
		}
		run = components[os.Args[1]]
		// The components parse os.Args themselves and expect their own name in front.
		os.Args = os.Args[1:]
	}
	run()
}

// runKubectl is the main function of k8s.io/kubernetes/cmd/kubectl.
func runKubectl() {
	logs.GlogSetter(kubectl.GetLogVerbosity(os.Args)) //nolint:errcheck // as upstream: a wrong -v is reported later
	if err := cli.RunNoErrOutput(kubectl.NewDefaultKubectlCommand()); err != nil {
		kubectlutil.CheckErr(err)
	}
}

// generateKey prints a new private key, for signing service account tokens. It is here because the Python standard
// library cannot make one, and openssl is not on every machine.
func generateKey() {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		panic(err)
	}
	der, err := x509.MarshalECPrivateKey(key)
	if err != nil {
		panic(err)
	}
	if err := pem.Encode(os.Stdout, &pem.Block{Type: "EC PRIVATE KEY", Bytes: der}); err != nil {
		panic(err)
	}
}
