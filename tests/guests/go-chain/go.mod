module go-chain

go 1.27
