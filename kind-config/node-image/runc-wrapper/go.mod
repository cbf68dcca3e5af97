module comeback.invalid/node-image/runc-wrapper

go 1.24
