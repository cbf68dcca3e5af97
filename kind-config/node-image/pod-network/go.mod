module comeback.invalid/node-image/pod-network

go 1.24
